# ruff: noqa: E501  (sentences and patterns stay whole)
"""Questions and answers of the demonstration model, in English and Modern Standard Arabic.

A pattern such as ``"{What|Which} plane is this?"`` stands for all its expansions. ``ASKED`` is trained
on, ``HELD_OUT`` is only ever used to evaluate, and ``FOLLOW_UPS`` are the short forms a second question
takes. The two languages have the same keys.
"""

from __future__ import annotations

import itertools
import re

__all__ = ["ASKED", "FOLLOW_UPS", "FOLLOW_UPS_HELD_OUT", "HELD_OUT", "expand"]


def expand(pattern: str) -> list[str]:
    """All texts a pattern stands for, in order."""
    pieces = [piece.split("|") for piece in re.split(r"\{([^}]*)\}", pattern)]
    return ["".join(choice) for choice in itertools.product(*pieces)]


ASKED: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "modality": (
            "{What|Which} {modality|imaging modality|imaging technique|kind of scan|type of image|kind of examination} is {this|shown here}?",
            "{Name|Tell me|Identify|State} the {modality|imaging modality|imaging technique|type of examination}.",
            "How was this {image|picture|scan} {made|acquired|obtained|taken}?",
            "Is this a CT, an MR or {an X-ray|a radiograph|something else}?",
            "What is the modality {of this image|here|of the picture}?",
            "What {kind|type} of {image|picture|study} {do I see|am I looking at|is on the screen}?",
        ),
        "body": (
            "{What|Which} {body part|part of the body|region|organ|anatomical region|anatomy} {is this|is shown|is visible|do you see|is imaged}?",
            "{Name|Tell me|Identify|State} the {body part|anatomical region|organ shown|anatomy}.",
            "What does {the image|this picture|the scan} show?",
            "{Where in the body|From which part of the body|Of which body part} is this?",
            "What part of the {patient|body} {was imaged|was examined|is in the picture}?",
        ),
        "plane": (
            "{What|Which} {plane|imaging plane|orientation|projection|section} is {this|shown|used here}?",
            "{Name|Tell me|Identify|State} the {plane|imaging plane|orientation|projection}.",
            "Is this {axial or sagittal|axial, sagittal or frontal|a sagittal or an axial slice}?",
            "In {which|what} plane {was this acquired|is this slice|is the image}?",
            "What is the plane of {the image|this slice|the scan}?",
        ),
        "lesion": (
            "{Is there|Do you see|Can you see|Is there any sign of} {a lesion|an abnormality|any lesion|any abnormality|something abnormal}?",
            "Is {a lesion|an abnormality|anything abnormal} {visible|present|seen} {here|in this image|in the picture}?",
            "{Does the image show|Does this show|Does the scan contain} {a lesion|any abnormality|a focal lesion}?",
            "{Any|Are there any} {lesions|abnormalities|focal lesions}?",
            "Is the {image|scan} normal?",
            "Lesion {present|visible} or not?",
            "Tell me whether a lesion is {visible|present}.",
        ),
        "side": (
            "{Where|On which side|On what side} {is the lesion|is the abnormality|does the lesion lie|is the lesion located}?",
            "{Is the lesion|Does the lesion lie} on the left or {on the right|the right} {of the image|here}?",
            "{Which|What} side {is affected|is the lesion on|of the image shows the lesion}?",
            "{Name|Tell me|State|Give} the {side|location|position} of the {lesion|abnormality}.",
            "Is the abnormality {left or right|on the left or right side}?",
        ),
        "size": (
            "{How large|How big|How small} is the {lesion|abnormality|finding}?",
            "{What is|Tell me|Give|State} the {size|extent} of the {lesion|abnormality}.",
            "Is the {lesion|abnormality} {small or large|large or small|big or small}?",
            "What size {is the lesion|does the lesion have|is the abnormality}?",
            "How {large|big} would you say the lesion is?",
        ),
        "tone": (
            "Is the {lesion|abnormality} {bright or dark|dark or bright|brighter or darker than its surroundings|hyperdense or hypodense}?",
            "How {bright|dark} is the lesion?",
            "{What is|Describe|Tell me|State} the {brightness|signal|intensity|density} of the {lesion|abnormality}.",
            "Does the lesion {look|appear} {bright or dark|dark or bright|darker or brighter}?",
            "{Which|What} {brightness|signal|intensity} does the lesion have?",
        ),
        "contrast": (
            "{Was|Has} {contrast|a contrast agent|contrast medium} {been given|used|administered} or what is the weighting?",
            "Is this {contrast-enhanced|with contrast|with or without contrast|enhanced}?",
            "{What|Which} {weighting|contrast} {is this|does the image have|is shown|was used}?",
            "Is it {T1 or T2|T1-weighted or T2-weighted|T2 or T1 weighted}?",
            "{Name|Tell me|State|Identify} the {weighting|contrast|image contrast}.",
            "{Is|Can you see} contrast {agent in the vessels|in the vessels|medium visible}?",
        ),
        "quality": (
            "{How is|How good is|What is|Judge|Rate} the {image quality|quality of the image|quality}?",
            "Is {the image|this picture|it} {noisy|of good quality|good or noisy|noisy or clear|grainy}?",
            "Is there {much noise|noise|a lot of noise} in {the image|the picture}?",
            "{Comment on|Tell me about|Assess} the {image quality|quality|noise}.",
        ),
        "describe": (
            "{Describe|Please describe|Summarise|Explain|Comment on} {the image|this image|what you see|the picture|this scan}.",
            "What {do you see|can you see|can you tell me|is there to see} {here|in this image|in the picture|on the screen}?",
            "{Tell me|Say something} about {the image|this image|this picture}.",
            "{Give|Write} a {short|brief} {description|summary} {of the image|of this picture}.",
        ),
        "report": (
            "{Write|Make|Draft|Give me|Prepare|Produce} {a report|a full report|a structured report|a radiology report|the findings as a report}.",
            "{Write|Draft|Create} a {report|detailed report} {for this image|about this picture|of the findings}.",
            "{Report|Dictate} {the findings|this image|this study}.",
            "I need a {report|written report} {please|on this image}.",
        ),
        "compare": (
            "{Compare|Please compare} {this|it|this image} with the {previous|last|first|earlier} {image|picture|one}.",
            "How does {this|this image|it} differ from the {previous|first|earlier} {image|one}?",
            "What {is different|has changed|is the difference} {from|compared with} the {previous|earlier} image?",
        ),
        "who": (
            "{What|Who} are you?",
            "{Tell me|Say something} about yourself.",
            "{Are you|Is this} {an AI|a real model|BiMediX2|a program|a computer}?",
            "{What|Which} {model|kind of model|program} {are you|is this|am I talking to}?",
            "Introduce yourself{| please}.",
        ),
        "can": (
            "What can you {do|do for me|tell me|recognise|answer}?",
            "{How|In what way} can you {help|help me|assist me}?",
            "What {are you able to do|are your abilities|questions can I ask|should I ask you|do you know}?",
            "Help{| me| please}.",
        ),
        "doctor": (
            "Are you a {doctor|physician|radiologist|real doctor|medical professional}?",
            "{Can|May|Should} I {trust you|rely on you} {like a doctor|as a doctor|for my patient|clinically}?",
            "{Can|May} I use {you|this|your answers} {clinically|for patients|in the clinic|for diagnosis}?",
        ),
        "thanks": (
            "{Thanks|Thank you|Many thanks|Thank you very much|Thanks a lot|Great, thanks|OK thanks}{.|!}",
            "{Good, thank you|Thanks for your help|Thank you for the answer|Perfect, thanks|Very good, thanks|Thanks again}{.|!}",
        ),
        "hello": (
            "{Hello|Hi|Good morning|Good evening|Hello there|Hey|Greetings|Hi there}{.|!}",
            "{Hello, doctor|Hi, how are you|Good day|Good afternoon|Hello, how are you|Hello model}{.|!}",
        ),
        "refuse": (
            "What is the {diagnosis|prognosis|treatment|cause|best treatment|right dose|likely disease|patient's name|patient's age}?",
            "{Is it|Is this|Could it be} {cancer|malignant|a tumour|benign|a stroke|an infection|dangerous|curable}?",
            "{How should|Which drug should|What should} I {treat this|prescribe|do next|give the patient}?",
            "{Who is|How old is|Tell me the name of} the patient?",
            "{Will the patient|Can the patient} {survive|recover|get better}?",
            "{What is the capital of France|What is the weather today|Tell me a joke|Who won the match|Write a poem}{|?}",
            "{Does the patient need|Should we plan} {surgery|an operation|a biopsy|chemotherapy|antibiotics}?",
            "What are the {symptoms|side effects|risks} of {diabetes|aspirin|pneumonia|surgery|hypertension}?",
            "{What caused|Why is there} {this lesion|the lesion|this}?",
        ),
    },
    "ar": {
        "modality": (
            "ما {نوع هذه الصورة|طريقة التصوير|تقنية التصوير|نوع هذا الفحص|الفحص الظاهر هنا|نوع التصوير}؟",
            "{اذكر|حدّد|سمِّ|أخبرني عن} {نوع الفحص|طريقة التصوير|تقنية التصوير|نوع الصورة}.",
            "كيف {أُخذت|التُقطت|صُوّرت} هذه الصورة؟",
            "هل هذا تصوير مقطعي أم رنين مغناطيسي{| أم صورة شعاعية}؟",
            "بأي {طريقة|تقنية|جهاز} {أُخذت هذه الصورة|صُوّر هذا الفحص}؟",
            "أي {نوع من الصور|نوع من الفحوص|فحص} {هذا|أراه هنا|على الشاشة}؟",
        ),
        "body": (
            "{ما|أي} {جزء من الجسم|منطقة من الجسم|عضو} {تُظهره الصورة|يظهر هنا|تراه}؟",
            "ما {العضو الظاهر|الجزء الظاهر من الجسم|المنطقة التشريحية|جزء الجسم المصوَّر} {|هنا|في الصورة}؟",
            "{اذكر|حدّد|سمِّ} {العضو الظاهر|جزء الجسم|المنطقة التشريحية}.",
            "ماذا تُظهر {الصورة|هذه الصورة}؟",
            "{لأي جزء من الجسم|لأي عضو} هذه الصورة؟",
        ),
        "plane": (
            "ما {مستوى الصورة|مستوى التصوير|مستوى المقطع|اتجاه المقطع|الإسقاط المستخدم}؟",
            "{اذكر|حدّد|سمِّ|أخبرني عن} {مستوى التصوير|مستوى الصورة|المستوى|الإسقاط}.",
            "هل {المقطع|الصورة في مستوى} {محوري أم سهمي|سهمي أم محوري}؟",
            "في أي {مستوى|اتجاه} {أُخذت الصورة|هذا المقطع|هذه الصورة|التُقطت الصورة}؟",
            "أي مستوى {هذا|تُظهره الصورة|يظهر هنا}؟",
        ),
        "lesion": (
            "هل {توجد|ترى|تظهر|هناك} {آفة|أي آفة|آفة ما} {|هنا|في الصورة|في هذه الصورة}؟",
            "هل {يوجد|ترى|يظهر|هناك} {شذوذ|أي شذوذ|شيء غير طبيعي} {|هنا|في الصورة}؟",
            "هل {الصورة طبيعية|الفحص طبيعي|هذه الصورة سليمة}؟",
            "{أخبرني|قل لي|بيّن} هل {توجد آفة|يوجد شذوذ}.",
            "هل تحتوي الصورة على {آفة|شذوذ|آفة بؤرية}؟",
        ),
        "side": (
            "{أين|في أي جهة|في أي جانب} {تقع الآفة|توجد الآفة|تظهر الآفة|الآفة|يقع الشذوذ}؟",
            "هل الآفة في {اليمين أم اليسار|اليسار أم اليمين|يمين الصورة أم يسارها|يسار الصورة أم يمينها}؟",
            "{ما|حدّد|اذكر} {موقع الآفة|مكان الآفة|جهة الآفة}{|.}",
            "{أي جهة|أي جانب} {من الصورة|} {فيه الآفة|تظهر فيه الآفة}؟",
            "{أخبرني عن|بيّن} {موضع الآفة|مكان الشذوذ}.",
        ),
        "size": (
            "ما {حجم الآفة|حجم الشذوذ|مقدار حجم الآفة|حجم هذه الآفة}؟",
            "كم {يبلغ حجم الآفة|حجم الآفة|حجم الشذوذ}؟",
            "هل الآفة {صغيرة أم كبيرة|كبيرة أم صغيرة|كبيرة|صغيرة}؟",
            "{حدّد|اذكر|صف|أخبرني عن} {حجم الآفة|حجم الشذوذ}.",
            "{ما مدى|إلى أي حد} {كبر الآفة|اتساع الآفة}؟",
        ),
        "tone": (
            "هل الآفة {ساطعة أم داكنة|داكنة أم ساطعة|أسطع أم أغمق مما حولها|أغمق أم أسطع مما حولها|فاتحة أم داكنة}؟",
            "{ما|صف|حدّد|اذكر} {شدة إشارة الآفة|سطوع الآفة|كثافة الآفة|شدة الآفة}{|.}",
            "كيف تبدو {شدة الآفة|كثافة الآفة|إشارة الآفة|درجة سطوع الآفة}؟",
            "هل تبدو الآفة {ساطعة|داكنة|فاتحة} أم لا؟",
        ),
        "contrast": (
            "هل {أُعطيت|استُخدمت|حُقنت} مادة {تباين|تباين هنا|تباين في هذا الفحص}؟",
            "هل {الصورة|الفحص} {مع مادة تباين|بمادة تباين أم بدونها|معزز بالتباين|مع التباين أم بدونه}؟",
            "ما {وزن الصورة|نوع التباين|تباين الصورة|وزن الرنين}؟",
            "هل {الصورة|هي} موزونة {بالزمن T1 أم T2|بالزمن T2 أم T1}؟",
            "{اذكر|حدّد|أخبرني عن} {وزن الصورة|تباين الصورة|نوع التباين}.",
            "هل تظهر مادة التباين في {الأوعية|الأوعية الدموية|الصورة}؟",
        ),
        "quality": (
            "{ما|كيف تبدو|قيّم|صف} {جودة الصورة|نوعية الصورة|جودة هذه الصورة}{|.}",
            "هل {الصورة|هذه الصورة} {مشوشة|جيدة الجودة|واضحة|واضحة أم مشوشة|جيدة أم مشوشة}؟",
            "هل {يوجد ضجيج|هناك ضجيج|يوجد تشويش|هناك تشويش} في الصورة؟",
            "كيف {جودة الصورة|هي جودة الصورة}؟",
        ),
        "describe": (
            "{صف|من فضلك صف|لخّص|اشرح|علّق على} {الصورة|هذه الصورة|ما تراه|ما يظهر هنا}.",
            "ماذا {ترى|تلاحظ|يمكنك أن ترى} {هنا|في الصورة|في هذه الصورة}؟",
            "{أخبرني|حدثني} عن {الصورة|هذه الصورة}.",
            "{اكتب|أعطني} {وصفًا قصيرًا|وصفًا موجزًا|ملخصًا} {للصورة|لهذه الصورة}.",
        ),
        "report": (
            "{اكتب|أعدّ|حرّر|أعطني|جهّز|أنشئ} {تقريرًا|تقريرًا كاملًا|تقريرًا منظمًا|تقريرًا شعاعيًا|تقريرًا مفصلًا}{| عن الصورة| لهذه الصورة}.",
            "{أريد|أحتاج إلى} تقرير {مكتوب|عن هذه الصورة|كامل}.",
            "{اكتب|دوّن} {النتائج في تقرير|تقرير الفحص}.",
        ),
        "compare": (
            "{قارن|من فضلك قارن} {هذه الصورة|الصورة|هذه} {بالصورة السابقة|بالسابقة|بالصورة الأولى}.",
            "{ما الفرق|ما الاختلاف} بين {هذه الصورة|هذه} {والصورة السابقة|والسابقة|والصورة الأولى}؟",
            "كيف تختلف {هذه الصورة|الصورة} عن {الصورة السابقة|السابقة|الأولى}؟",
        ),
        "who": (
            "{من|ما} أنت؟",
            "{عرّف بنفسك|حدثني عن نفسك|أخبرني عن نفسك|قدّم نفسك}.",
            "هل {أنت|هذا} {نموذج حقيقي|برنامج|ذكاء اصطناعي|حاسوب}؟",
            "{أي نموذج|أي برنامج} {أنت|هذا}؟",
            "مع {من|أي نموذج} أتحدث؟",
        ),
        "can": (
            "ماذا {تستطيع أن تفعل|يمكنك أن تفعل|تعرف|تستطيع}؟",
            "كيف {تساعدني|يمكنك مساعدتي|تستطيع مساعدتي}؟",
            "ما {قدراتك|الذي تستطيع فعله|الأسئلة التي يمكنني طرحها|الذي يمكنك معرفته}؟",
            "{ساعدني|مساعدة|أحتاج إلى مساعدة}.",
        ),
        "doctor": (
            "هل أنت {طبيب|طبيب حقيقي|طبيب أشعة|مختص طبي}؟",
            "هل {يمكنني|أستطيع} {الوثوق بك|الاعتماد عليك} {كطبيب|سريريًا|في العيادة}؟",
            "هل {يمكنني|أستطيع} {استخدامك|استخدام إجاباتك} {للتشخيص|للمرضى|سريريًا}؟",
        ),
        "thanks": (
            "{شكرًا|شكرًا لك|شكرًا جزيلًا|أشكرك|ألف شكر|جزيل الشكر|حسنًا، شكرًا}{.|!}",
            "{شكرًا على المساعدة|شكرًا على الإجابة|ممتاز، شكرًا|جيد، شكرًا|شكرًا مرة أخرى|لك الشكر}{.|!}",
        ),
        "hello": (
            "{مرحبًا|السلام عليكم|أهلًا|صباح الخير|مساء الخير|مرحبًا بك|أهلًا وسهلًا}{.|!}",
            "{تحية طيبة|مرحبًا، كيف حالك|أهلًا، كيف الحال|طاب يومك|يومك سعيد|سلام}{.|!}",
        ),
        "refuse": (
            "ما {التشخيص|العلاج|سبب المرض|أفضل علاج|الجرعة المناسبة|المرض المحتمل|اسم المريض|عمر المريض|مآل المرض}؟",
            "هل {هو|هذا|هذه الآفة} {سرطان|ورم خبيث|خطير|ورم حميد|سكتة|التهاب|قابل للشفاء}؟",
            "{كيف أعالج|أي دواء أصف ل|ماذا أعطي}{ المريض|هذه الحالة}؟",
            "{من هو المريض|كم عمر المريض|ما اسم المريض|ما جنس المريض}؟",
            "هل {سيتعافى|سيعيش|يشفى} المريض؟",
            "{ما عاصمة فرنسا|كيف الطقس اليوم|احكِ لي نكتة|من فاز في المباراة|اكتب قصيدة}{|؟}",
            "هل {يحتاج المريض إلى|نحتاج إلى} {جراحة|عملية|خزعة|علاج كيميائي|مضاد حيوي}؟",
            "ما {أعراض|مخاطر|مضاعفات} {السكري|الالتهاب الرئوي|الجراحة|ارتفاع ضغط الدم}؟",
            "{ما سبب|لماذا توجد} {هذه الآفة|الآفة}؟",
        ),
    },
}

HELD_OUT: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "modality": (
            "Which imaging technique was used here?",
            "Please name the modality of this picture.",
            "What type of scan am I looking at?",
            "Tell me how this image was obtained.",
        ),
        "body": (
            "Which region of the body do you see here?",
            "Please tell me which body part this is.",
            "What organ is in this image?",
            "Which anatomy does the scan show?",
        ),
        "plane": (
            "What is the imaging plane here?",
            "Please state the orientation of this slice.",
            "Which plane does the image have?",
            "Is the slice axial, or is it sagittal?",
        ),
        "lesion": (
            "Do you see anything abnormal here?",
            "Is any focal lesion visible?",
            "Please tell me whether there is a lesion.",
            "Can you see an abnormality in this scan?",
        ),
        "side": (
            "Please tell me on which side the lesion lies.",
            "Where in the image is the abnormality?",
            "Is the abnormality on the right or on the left?",
            "Which side does the lesion lie on?",
        ),
        "size": (
            "How big is this lesion?",
            "Please state how large the lesion is.",
            "Would you say the abnormality is small or large?",
            "Tell me the size of this finding.",
        ),
        "tone": (
            "Does the abnormality appear bright or dark?",
            "Is this lesion darker or brighter than its surroundings?",
            "Please state the intensity of this lesion.",
            "What density does the lesion have?",
        ),
        "contrast": (
            "Was a contrast agent used here?",
            "Which weighting does this image have?",
            "Is the scan enhanced with contrast?",
            "Please identify the contrast of this image.",
        ),
        "quality": (
            "How noisy is the picture?",
            "Please rate the quality of this image.",
            "Is the quality of the picture good?",
            "Is this image grainy or clear?",
        ),
        "describe": (
            "Please describe this picture.",
            "Summarise what you can see here.",
            "Give a brief summary of the scan.",
            "Tell me what you see in this picture.",
        ),
        "report": (
            "Please write a report about this image.",
            "Prepare a detailed report of this study.",
            "Draft the report for this picture.",
            "Give me a written report on the findings.",
        ),
        "compare": (
            "Please compare the picture with the earlier one.",
            "What is the difference from the first image?",
            "How does the image differ from the last one?",
            "Compare it with the image before.",
        ),
        "who": (
            "Please introduce yourself to me.",
            "What program am I talking to?",
            "Are you a real AI?",
            "Tell me who you are.",
        ),
        "can": (
            "What can you answer for me?",
            "How can you assist?",
            "Which questions can I ask you?",
            "Tell me what you can do.",
        ),
        "doctor": (
            "Are you a real radiologist?",
            "May I rely on your answers as a doctor?",
            "Can I use your answers for my patient?",
            "Is this a doctor speaking?",
        ),
        "thanks": ("Thanks, that is great!", "OK, thank you.", "Thank you so much!", "Great, many thanks."),
        "hello": ("Hello, good morning!", "Hey there!", "Hi, good evening.", "Hello hello"),
        "refuse": (
            "What is the likely diagnosis here?",
            "Which drug should I give the patient?",
            "Could this be a malignant tumour?",
            "Will the patient need an operation?",
        ),
    },
    "ar": {
        "modality": (
            "أي تقنية تصوير استُخدمت هنا؟",
            "من فضلك اذكر نوع هذا الفحص.",
            "ما نوع التصوير الظاهر هنا؟",
            "أخبرني كيف التُقطت هذه الصورة.",
        ),
        "body": (
            "أي منطقة من الجسم تظهر في الصورة؟",
            "من فضلك حدّد العضو المصوَّر.",
            "ما جزء الجسم الذي تراه هنا؟",
            "أي عضو تُظهر هذه الصورة؟",
        ),
        "plane": (
            "ما المستوى الذي أُخذت فيه الصورة؟",
            "من فضلك اذكر مستوى المقطع.",
            "هل هذا المقطع سهمي أم محوري؟",
            "أي مستوى تصوير هذا؟",
        ),
        "lesion": (
            "هل ترى أي شيء غير طبيعي في هذه الصورة؟",
            "هل تظهر آفة بؤرية هنا؟",
            "من فضلك قل لي هل تظهر آفة.",
            "هل في الصورة أي شذوذ؟",
        ),
        "side": (
            "من فضلك حدّد جهة الآفة.",
            "في أي جانب من الصورة تقع الآفة؟",
            "هل تقع الآفة في اليمين أم في اليسار؟",
            "أين يظهر الشذوذ في الصورة؟",
        ),
        "size": (
            "كم حجم هذه الآفة؟",
            "من فضلك اذكر حجم الآفة.",
            "هل حجم الآفة كبير أم صغير؟",
            "هل تبدو الآفة صغيرة أم كبيرة؟",
        ),
        "tone": (
            "هل تبدو الآفة ساطعة أم داكنة؟",
            "من فضلك حدّد شدة إشارة الآفة.",
            "هل هذه الآفة أغمق أم أسطع مما حولها؟",
            "كيف يبدو سطوع الآفة؟",
        ),
        "contrast": (
            "هل استُخدمت مادة تباين هنا؟",
            "ما وزن هذه الصورة؟",
            "من فضلك حدّد نوع التباين في الصورة.",
            "هل الفحص بمادة تباين؟",
        ),
        "quality": (
            "كيف ترى جودة هذه الصورة؟",
            "من فضلك قيّم جودة الصورة.",
            "هل الصورة واضحة وجيدة؟",
            "هل في الصورة ضجيج؟",
        ),
        "describe": (
            "من فضلك صف ما تراه.",
            "أعطني وصفًا لهذه الصورة.",
            "ماذا تلاحظ في هذه الصورة؟",
            "لخّص ما يظهر في الصورة.",
        ),
        "report": (
            "من فضلك اكتب تقريرًا عن الصورة.",
            "أعدّ تقرير الفحص كاملًا.",
            "أريد تقريرًا مفصلًا لهذه الصورة.",
            "جهّز تقريرًا مكتوبًا.",
        ),
        "compare": (
            "من فضلك قارن الصورة بالسابقة.",
            "ما الذي تختلف فيه هذه الصورة عن السابقة؟",
            "قارن بين هذه الصورة والصورة الأولى.",
            "ما الفرق عن الصورة السابقة؟",
        ),
        "who": (
            "من فضلك عرّف بنفسك.",
            "أي نموذج هذا الذي أتحدث معه؟",
            "هل أنت ذكاء اصطناعي حقيقي؟",
            "أخبرني من أنت.",
        ),
        "can": ("ماذا تستطيع أن تعرف؟", "كيف يمكنك أن تساعدني؟", "ما الذي يمكنك فعله؟", "من فضلك ساعدني."),
        "doctor": (
            "هل أنت طبيب أم برنامج؟",
            "هل يمكنني الاعتماد عليك للتشخيص؟",
            "هل أستطيع استخدامك في العيادة؟",
            "هل أتحدث مع طبيب؟",
        ),
        "thanks": ("شكرًا جزيلًا لك!", "حسنًا، شكرًا لك.", "أشكرك كثيرًا.", "شكرًا، هذا جيد."),
        "hello": ("أهلًا بك!", "مرحبًا، صباح الخير.", "السلام عليكم ورحمة الله.", "أهلًا، مساء الخير."),
        "refuse": (
            "ما التشخيص المحتمل هنا؟",
            "أي علاج أعطي المريض؟",
            "هل يمكن أن يكون هذا سرطانًا؟",
            "هل يحتاج المريض إلى عملية جراحية؟",
        ),
    },
}

FOLLOW_UPS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "modality": ("{And the|The} modality?", "And what kind of {image|scan} is it?"),
        "body": ("{And the|The} body part?", "And {which|what} {organ|region}?"),
        "plane": ("{And the|The|And which|Which} plane?", "In which plane?"),
        "lesion": ("{And a|A} lesion?", "{And is|Is} {there one|it normal}?", "Anything abnormal?"),
        "side": (
            "{And which|Which|And on which|On which} side?",
            "{And where|Where} {is it|exactly}?",
            "{And left|Left} or right?",
            "Where?",
        ),
        "size": (
            "{And how large|How large|And how big|How big} is it?",
            "{And its|Its|And the} size?",
            "{And small|Small} or large?",
        ),
        "tone": (
            "{And bright|Bright} or dark?",
            "{And is it|Is it} {bright or dark|darker or brighter}?",
            "{And its|Its} brightness?",
        ),
        "contrast": ("{And the|The|And what} {weighting|contrast}?", "{And contrast|With contrast}?"),
        "quality": ("{And the|The|And how is the} quality?", "{And is it|Is it} noisy?"),
        "describe": ("{And in general|In more detail|And in a few sentences}?", "Describe it{| please}."),
        "report": ("And {a|the} report{| please}?", "Now {write|make} {the|a} report."),
    },
    "ar": {
        "modality": ("{وما نوع الصورة|ونوع الفحص|وما طريقة التصوير}؟",),
        "body": ("{وأي عضو|وما العضو|وأي جزء من الجسم}؟",),
        "plane": ("{وما المستوى|والمستوى|وفي أي مستوى|في أي مستوى}؟",),
        "lesion": ("{وهل توجد آفة|وهل من آفة|وهل هناك شذوذ|وهل هي طبيعية}؟",),
        "side": ("{وفي أي جهة|في أي جهة|وأين تقع|أين|وأين|وفي أي جانب|يمين أم يسار}؟",),
        "size": ("{وما حجمها|ما حجمها|وكم حجمها|وهل هي كبيرة|صغيرة أم كبيرة|والحجم}؟",),
        "tone": ("{وهل هي ساطعة أم داكنة|ساطعة أم داكنة|وما شدتها|وهل هي داكنة}؟",),
        "contrast": ("{وما الوزن|والتباين|وهل أُعطيت مادة تباين|وما التباين}؟",),
        "quality": ("{وما الجودة|والجودة|وكيف الجودة|وهل هي مشوشة}؟",),
        "describe": ("{صفها|صفها من فضلك|وبشكل عام|وبالتفصيل}.",),
        "report": ("{والآن اكتب التقرير|والتقرير|اكتب تقريرًا الآن}.",),
    },
}

FOLLOW_UPS_HELD_OUT: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "modality": ("And which modality?",),
        "body": ("And which body part?",),
        "plane": ("What about the plane?",),
        "lesion": ("And is there a lesion?",),
        "side": ("And on what side is it?",),
        "size": ("And what size is it?",),
        "tone": ("And is it dark or bright?",),
        "contrast": ("And which weighting?",),
        "quality": ("And what about the quality?",),
        "describe": ("Please describe it.",),
        "report": ("Now the report please.",),
    },
    "ar": {
        "modality": ("وما نوع الفحص؟",),
        "body": ("وما جزء الجسم؟",),
        "plane": ("وما مستوى الصورة؟",),
        "lesion": ("وهل تظهر آفة؟",),
        "side": ("وفي أي جهة تقع؟",),
        "size": ("وهل هي صغيرة أم كبيرة؟",),
        "tone": ("وهل هي أغمق أم أسطع؟",),
        "contrast": ("وما نوع التباين؟",),
        "quality": ("وما جودة الصورة؟",),
        "describe": ("والآن صفها.",),
        "report": ("والآن أعدّ تقريرًا.",),
    },
}
