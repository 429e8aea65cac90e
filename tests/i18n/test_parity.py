"""A translation that changed a number, a unit, a side or a level is caught; a faithful one is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i18n.parity import differences

SAME = [
    (
        "There is a 12.5 mm nodule in the right upper lobe.",
        "توجد عقدة قياسها 12.5 ملم في الفص العلوي الأيمن.",
    ),
    ("Left pleural effusion, < 0.50 cm.", "انصباب جنبي أيسر، < 0.50 سم."),
    ("Disc bulge at L4-L5.", "انفتاق القرص عند L4–L5."),
    ("The mass measures 3 x 4 cm in the left kidney.", "يبلغ قياس الكتلة 3 × 4 سم في الكلية اليسرى."),
    ("Attenuation of 45 HU.", "التوهين 45 وحدة هاونسفيلد."),
    ("Ejection fraction 55 %.", "الكسر القذفي ٥٥٪."),
    ("A 63-year-old man", "رجل عمره 63 سنة"),
    ("Dose 5 mg", "الجرعة ٥ ملغ"),
    ("Volume 1,200 mL", "الحجم 1200 مل"),
    ("The right lung is clear; the left shows a lesion.", "الرئة اليمنى سليمة؛ وتظهر آفة في اليسرى."),
    ("No fracture.", "لا يوجد كسر."),
    ("12 +/- 2 mm", "12 ± 2 ملم"),
    ("3-5 mm, 3 - 5 mm", "3-5 ملم، 3 - 5 ملم"),
    ("- 5 mm\n- density -50 HU", "- 5 ملم\n- الكثافة −50 HU"),
    ("CT of the chest", "CT"),
    ("The lesion is on the left.", "تقع الآفة على اليسار."),
]
CHANGED = [
    ("12.5 mm nodule", "عقدة 12.5 سم", "measurement"),
    ("12.5 mm nodule", "عقدة 1.25 ملم", "measurement"),
    ("12 mm nodule", "عقدة صغيرة", "measurement"),
    ("nodule", "عقدة 5 ملم", "measurement"),
    ("< 5 mm", "> 5 ملم", "measurement"),
    ("right lung", "الرئة اليسرى", "side"),
    ("left kidney", "الكلية", "side"),
    ("the right is clear, the left is not", "اليسرى سليمة واليمنى ليست كذلك", "side_order"),
    ("L4-L5", "L3-L4", "level"),
    ("±5 mm", "5 ملم", "measurement"),
    ("Mean density -50 HU", "متوسط الكثافة 50 وحدة هاونسفيلد", "measurement"),
    ("Mean density −50 HU", "متوسط الكثافة 50 HU", "measurement"),
    ("between (-5 and 7) mm", "بين (5 و7) ملم", "measurement"),
]


@pytest.mark.parametrize(("english", "arabic"), SAME)
def test_a_faithful_translation_differs_in_nothing(english, arabic):
    """Units, digits and separators of either language are the same fact, whichever was first."""
    assert differences(english, arabic) == ()
    assert differences(arabic, english) == ()


@pytest.mark.parametrize(("english", "arabic", "kind"), CHANGED)
def test_a_changed_fact_is_named(english, arabic, kind):
    """What was lost and what was put in its place are told, from either side."""
    (found,) = differences(english, arabic)
    (turned,) = differences(arabic, english)
    assert found.kind == turned.kind == kind
    assert (found.missing, found.added) == (turned.added, turned.missing)
    assert found.missing or found.added


def test_a_translation_in_the_language_of_its_original_is_named():
    """Another sentence in the same language is no translation; names alone tell nothing."""
    for original, twin in (
        ("جودة الصورة جيدة.", "يُرجى فتح صورة أولًا."),
        ("The right lung is clear.", "The right lung looks clear."),
    ):
        assert [one.kind for one in differences(original, twin)] == ["language"]
    assert differences("CT, chest.", "CT chest") == ()
    assert differences("MRI", "MRI FLAIR, PACS") == ()


def test_words_that_only_look_like_sides_are_none():
    """Letters inside other words are no side: bright, yameen in no other word."""
    assert differences("bright leftover", "ساطع") == ()


@given(st.text(alphabet="0123456789., mلمسcأيسرleft <>L٣٤-", max_size=60))
def test_a_text_never_differs_from_itself(text):
    """Whatever it holds."""
    assert differences(text, text) == ()
