# ruff: noqa: E501  (sentences and patterns stay whole)
"""What the demonstration model says: one true answer per question type, language and picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.training.phantoms import Attributes

__all__ = ["ATTRIBUTE_WORDS", "GENERAL_TYPES", "IMAGE_TYPES", "Language", "answer", "caption"]

Language = Literal["en", "ar"]
IMAGE_TYPES = (
    "modality",
    "body",
    "plane",
    "lesion",
    "side",
    "size",
    "tone",
    "contrast",
    "quality",
    "describe",
    "report",
)
"""Questions about one picture."""
GENERAL_TYPES = ("who", "can", "doctor", "thanks", "hello", "refuse")
"""Questions that need no picture."""

_GENERAL: dict[Language, dict[str, str]] = {
    "en": {
        "who": "I am a small demonstration model, not for clinical use.",
        "can": "I can name the modality, the body part and the plane of an image, and say whether a lesion is visible, on which side it is and how large it is.",
        "doctor": "No, I am not a doctor. I am a demonstration model, not for clinical use.",
        "thanks": "You are welcome.",
        "hello": "Hello! Ask me about a medical image.",
        "refuse": "I am a demonstration model and cannot answer that. I can name the modality and the body part, and describe a visible lesion.",
        "no_image": "Please open an image first.",
        "one_image": "There is only one image in this conversation.",
    },
    "ar": {
        "who": "أنا نموذج صغير للعرض التجريبي، ولست مخصصًا للاستخدام السريري.",
        "can": "أستطيع تحديد نوع الفحص وجزء الجسم ومستوى الصورة، وبيان وجود آفة وجهتها وحجمها.",
        "doctor": "لا، لست طبيبًا. أنا نموذج للعرض التجريبي، ولست مخصصًا للاستخدام السريري.",
        "thanks": "على الرحب والسعة.",
        "hello": "مرحبًا! اسألني عن صورة طبية.",
        "refuse": "أنا نموذج للعرض التجريبي ولا أستطيع الإجابة عن ذلك. أستطيع تحديد نوع الفحص وجزء الجسم ووصف الآفة الظاهرة.",
        "no_image": "يُرجى فتح صورة أولًا.",
        "one_image": "توجد صورة واحدة فقط في هذه المحادثة.",
    },
}
_MODALITY: dict[Language, dict[str, str]] = {
    "en": {
        "CT": "This is a computed tomography (CT) image.",
        "MR": "This is a magnetic resonance (MR) image.",
        "XR": "This is a radiograph (X-ray image).",
        "US": "This is an ultrasound image.",
        "NM": "This is a bone scan from nuclear medicine.",
        "histology": "This is a histology image taken through a microscope.",
        "fundus": "This is a colour photograph of the fundus of the eye.",
    },
    "ar": {
        "CT": "هذه صورة تصوير مقطعي محوسب (CT).",
        "MR": "هذه صورة رنين مغناطيسي (MR).",
        "XR": "هذه صورة شعاعية بالأشعة السينية.",
        "US": "هذه صورة بالموجات فوق الصوتية.",
        "NM": "هذه صورة ومضان للعظام من الطب النووي.",
        "histology": "هذه صورة نسيجية ملتقطة بالمجهر.",
        "fundus": "هذه صورة ملونة لقاع العين.",
    },
}
_NAME: dict[Language, dict[str, str]] = {
    "en": {
        "ct_head": "a CT of the head",
        "ct_chest": "a CT of the chest",
        "ct_abdomen": "a CT of the abdomen",
        "ct_spine": "a CT of the spine",
        "mr_head": "an MR of the head",
        "mr_abdomen": "an MR of the abdomen",
        "mr_spine": "an MR of the spine",
        "mr_limb": "an MR of a limb",
        "chest_film": "a chest radiograph",
        "histology": "a histology image",
        "fundus": "a fundus photograph",
        "ultrasound": "an ultrasound image",
        "bone_scan": "a bone scan",
        "nothing": "not a medical image that I recognise",
    },
    "ar": {
        "ct_head": "صورة تصوير مقطعي محوسب للرأس",
        "ct_chest": "صورة تصوير مقطعي محوسب للصدر",
        "ct_abdomen": "صورة تصوير مقطعي محوسب للبطن",
        "ct_spine": "صورة تصوير مقطعي محوسب للعمود الفقري",
        "mr_head": "صورة رنين مغناطيسي للرأس",
        "mr_abdomen": "صورة رنين مغناطيسي للبطن",
        "mr_spine": "صورة رنين مغناطيسي للعمود الفقري",
        "mr_limb": "صورة رنين مغناطيسي لأحد الأطراف",
        "chest_film": "صورة شعاعية للصدر",
        "histology": "صورة نسيجية",
        "fundus": "صورة لقاع العين",
        "ultrasound": "صورة بالموجات فوق الصوتية",
        "bone_scan": "صورة ومضان للعظام",
        "nothing": "صورة لا أتعرف عليها",
    },
}
_BODY: dict[Language, dict[str, str]] = {
    "en": {
        "head": "It shows the head.",
        "chest": "It shows the chest.",
        "abdomen": "It shows the abdomen.",
        "spine": "It shows the spine.",
        "limb": "It shows a limb.",
        "histology": "It shows stained tissue.",
        "ultrasound": "It shows soft tissue.",
        "eye": "It shows the retina of the eye.",
        "skeleton": "It shows the whole skeleton.",
    },
    "ar": {
        "head": "تُظهر الصورة الرأس.",
        "chest": "تُظهر الصورة الصدر.",
        "abdomen": "تُظهر الصورة البطن.",
        "spine": "تُظهر الصورة العمود الفقري.",
        "limb": "تُظهر الصورة أحد الأطراف.",
        "histology": "تُظهر الصورة نسيجًا مصبوغًا.",
        "ultrasound": "تُظهر الصورة أنسجة رخوة.",
        "eye": "تُظهر الصورة شبكية العين.",
        "skeleton": "تُظهر الصورة الهيكل العظمي كاملًا.",
    },
}
_PLANE: dict[Language, dict[str, str]] = {
    "en": {
        "axial": "The plane is axial.",
        "sagittal": "The plane is sagittal.",
        "frontal": "It is a frontal projection.",
        "": "A plane does not apply to this kind of image.",
    },
    "ar": {
        "axial": "المستوى محوري.",
        "sagittal": "المستوى سهمي.",
        "frontal": "الإسقاط أمامي.",
        "": "لا ينطبق المستوى على هذا النوع من الصور.",
    },
}
_CONTRAST: dict[Language, dict[str, str]] = {
    "en": {
        "plain": "No contrast agent is visible.",
        "enhanced": "A contrast agent is visible: the vessels are bright.",
        "T1": "The image is T1-weighted.",
        "T2": "The image is T2-weighted.",
        "": "Contrast cannot be judged on this image.",
    },
    "ar": {
        "plain": "لا تظهر مادة تباين.",
        "enhanced": "تظهر مادة تباين، فالأوعية ساطعة.",
        "T1": "الصورة موزونة بالزمن T1.",
        "T2": "الصورة موزونة بالزمن T2.",
        "": "لا يمكن الحكم على التباين في هذه الصورة.",
    },
}
_QUALITY: dict[Language, dict[str, str]] = {
    "en": {"good": "The image quality is good.", "noisy": "The image is noisy."},
    "ar": {"good": "جودة الصورة جيدة.", "noisy": "الصورة مشوشة."},
}
_SIDE: dict[Language, dict[str, str]] = {
    "en": {"left": "left", "right": "right"},
    "ar": {"left": "يسار", "right": "يمين"},
}
_SIZE: dict[Language, dict[str, str]] = {
    "en": {"small": "small", "large": "large"},
    "ar": {"small": "صغيرة", "large": "كبيرة"},
}
_TONE: dict[Language, dict[str, str]] = {
    "en": {"bright": "bright", "dark": "dark"},
    "ar": {"bright": "ساطعة", "dark": "داكنة"},
}
_NONE: dict[Language, str] = {"en": "No lesion is visible.", "ar": "لا تظهر أي آفة."}
_UNKNOWN: dict[Language, str] = {
    "en": "I do not recognise a medical image here.",
    "ar": "لا أتعرف على صورة طبية هنا.",
}

ATTRIBUTE_WORDS: dict[Language, tuple[str, ...]] = {
    "en": (
        "left",
        "right",
        "small",
        "large",
        "bright",
        "dark",
        "Yes",
        "No",
        "axial",
        "sagittal",
        "noisy",
        "good",
        "head",
        "chest",
        "abdomen",
        "spine",
        "limb",
        "computed",
        "magnetic",
        "radiograph",
        "ultrasound",
        "bone",
        "histology",
        "fundus",
        "CT",
        "MR",
        "1",
        "2",
        "present",
        "absent",
    ),
    "ar": (
        "يسار",
        "يمين",
        "صغيرة",
        "كبيرة",
        "ساطعة",
        "داكنة",
        "نعم",
        "لا",
        "محوري",
        "سهمي",
        "مشوشة",
        "جيدة",
        "الرأس",
        "الصدر",
        "البطن",
        "للرأس",
        "للصدر",
        "للبطن",
        "للعمود",
        "العمود",
        "رنين",
        "تصوير",
        "شعاعية",
        "نسيجية",
        "لقاع",
        "ومضان",
        "بالموجات",
        "موجودة",
        "غائبة",
    ),
}
"""Words that carry what the picture shows; a training run weighs their tokens more."""


def caption(language: Language, attributes: Attributes) -> str:
    """Describe a picture in two to four sentences."""
    if not attributes.recognisable:
        return f"{_UNKNOWN[language]} " + (
            "There is nothing to describe." if language == "en" else "لا يوجد ما أصفه."
        )
    name = _NAME[language][attributes.kind]
    sentences = [f"This is {name}." if language == "en" else f"هذه {name}."]
    if attributes.plane:
        sentences.append(_PLANE[language][attributes.plane])
    sentences.extend([_QUALITY[language][attributes.quality], _finding(language, attributes)])
    return " ".join(sentences)


def _finding(language: Language, attributes: Attributes) -> str:
    if not attributes.lesion:
        return _NONE[language]
    side, size, tone = (
        table[language][word]
        for table, word in ((_SIDE, attributes.side), (_SIZE, attributes.size), (_TONE, attributes.tone))
    )
    if language == "en":
        return f"There is a {size} {tone} lesion on the {side} of the image."
    return f"توجد آفة {size} {tone} في {side} الصورة."


def _report(language: Language, attributes: Attributes) -> str:
    if not attributes.recognisable:
        return caption(language, attributes)
    english = language == "en"
    name = _NAME[language][attributes.kind]
    lines = [f"Examination: {name}." if english else f"الفحص: {name}."]
    lines.extend(
        [
            _PLANE[language][attributes.plane],
            _CONTRAST[language][attributes.contrast],
            _QUALITY[language][attributes.quality],
        ]
    )
    if attributes.lesion:
        side, size, tone = (
            table[language][word]
            for table, word in ((_SIDE, attributes.side), (_SIZE, attributes.size), (_TONE, attributes.tone))
        )
        lines.extend(
            ["Lesion: present.", f"Side: on the {side} of the image.", f"Size: {size}.", f"Signal: {tone}."]
            if english
            else ["الآفة: موجودة.", f"الجهة: في {side} الصورة.", f"الحجم: آفة {size}.", f"الشدة: آفة {tone}."]
        )
    else:
        lines.append("Lesion: absent." if english else "الآفة: غائبة.")
    lines.append(
        "This is a demonstration report, not for clinical use."
        if english
        else "هذا تقرير للعرض التجريبي، وليس للاستخدام السريري."
    )
    return "\n".join(lines)


def _about_lesion(question: str, language: Language, attributes: Attributes) -> str:
    english = language == "en"
    if question == "lesion":
        if attributes.lesion:
            return "Yes, a lesion is visible." if english else "نعم، تظهر آفة."
        return "No, no lesion is visible." if english else "لا، لا تظهر أي آفة."
    if not attributes.lesion:
        return _NONE[language]
    if question == "side":
        side = _SIDE[language][attributes.side]
        return f"The lesion is on the {side} of the image." if english else f"تقع الآفة في {side} الصورة."
    word = _SIZE[language][attributes.size] if question == "size" else _TONE[language][attributes.tone]
    return f"The lesion is {word}." if english else f"الآفة {word}."


def answer(
    question: str, language: Language, attributes: Attributes | None, previous: Attributes | None = None
) -> str:
    """Give the true answer.

    Parameters
    ----------
    question : str
        A type of ``IMAGE_TYPES``, of ``GENERAL_TYPES``, or ``compare``.
    language : {"en", "ar"}
        Language of the question.
    attributes : Attributes or None
        The latest picture of the conversation, None before the first.
    previous : Attributes or None
        The picture before it.
    """
    if question in _GENERAL[language]:
        return _GENERAL[language][question]
    if attributes is None:
        return _GENERAL[language]["no_image"]
    if question == "compare":
        if previous is None:
            return _GENERAL[language]["one_image"]
        before, now = _NAME[language][previous.kind], _NAME[language][attributes.kind]
        return (
            f"The previous image is {before}. This image is {now}."
            if language == "en"
            else f"الصورة السابقة هي {before}. هذه الصورة هي {now}."
        )
    if question == "describe":
        return caption(language, attributes)
    if question == "report":
        return _report(language, attributes)
    if not attributes.recognisable:
        return _UNKNOWN[language]
    tables = {
        "modality": (_MODALITY, attributes.modality),
        "plane": (_PLANE, attributes.plane),
        "contrast": (_CONTRAST, attributes.contrast),
        "quality": (_QUALITY, attributes.quality),
    }
    if question in tables:
        table, word = tables[question]
        return table[language][word]
    if question == "body":
        word = attributes.kind if attributes.body == "tissue" else attributes.body
        return _BODY[language][word]
    return _about_lesion(question, language, attributes)
