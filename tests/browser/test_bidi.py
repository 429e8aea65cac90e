"""Mixed Arabic and Latin text as Chromium lays it out: order on screen, while it arrives, and when copied."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ask

TABLE = json.loads((Path(__file__).parents[1] / "golden" / "bidi_strings.json").read_text(encoding="utf-8"))
CONTROLS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
AS_MARKDOWN = {
    "**القياس:** 12.5 mm": ("strong", "12.5 mm :ﺱﺎﻴﻘﻟﺍ"),
    "- عقدة 6 mm في LLL": ("li", "LLL ﻲﻓ 6 mm ﺓﺪﻘﻋ"),
    "`threshold = 5 mm` في الشيفرة ثم 5 mm": ("code", "5 mm ﻢﺛ ﺓﺮﻔﻴﺸﻟﺍ ﻲﻓ threshold = 5 mm"),
}
"""Strings the page draws as more than a paragraph: an element they hold, and the order without marks."""
MIXED = """التقرير:

- عقدة 6 mm في LLL
- RUL: كتلة كبيرة > 3 cm
- plain English, 4 mm

1. القياس 12.5 x 8 mm
2. الكثافة -450 HU

| الموجودات | القياس |
|---|---|
| عقدة | < 0.50 |
| L4–L5 | 12.5 mm |

الشيفرة `if (x < 5) return -1;` ثم **5 mm** للحد."""
GLYPHS = """(root) => {
  const made = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (let at = 0; at < node.data.length; at += 1) {
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const [box] = range.getClientRects();
      if (box) made.push([node.data[at], box.left + box.width / 2, (box.top + box.bottom) / 2]);
    }
  }
  return made;
}"""


@pytest.fixture
def wide(open_page):
    """Open an Arabic page whose paragraphs do not wrap, so that a line is a line of the text."""
    page = open_page(locale="ar")
    page.add_style_tag(content="#page :is(.prose p, .prose li, .bubble) { white-space: pre !important; }")
    return page


def seen(locator) -> str:
    """Characters from left to right, line by line; without spaces, short vowels and invisible marks."""
    lines: dict[int, list[tuple[float, str]]] = {}
    for character, x, y in locator.evaluate(GLYPHS):
        if character.isspace() or character in CONTROLS or unicodedata.combining(character):
            continue
        line = next((one for one in lines if abs(one - y) < 7), round(y))
        lines.setdefault(line, []).append((x, character))
    return "\n".join("".join(c for _, c in sorted(lines[line])) for line in sorted(lines))


def expected(visual: str) -> str:
    """Order of the table as characters of the text: letters unjoined, brackets unmirrored, no spaces."""
    letters = [unicodedata.normalize("NFKC", c) for c in visual]
    plain = "".join(n[::-1] if "\ufef5" <= c <= "\ufefc" else n for c, n in zip(visual, letters, strict=True))
    return "\n".join("".join(line.split()) for line in plain.split("\n"))


def alike(text: str) -> str:
    """Brackets of a pair as one: which way a glyph opens is no matter of its place."""
    bare = "".join(c for c in unicodedata.normalize("NFKC", text) if not unicodedata.combining(c))
    return bare.translate(str.maketrans(")]}>«", "([{<»"))


def test_every_string_of_the_table_stands_in_order(wide):
    """Seventy clinical strings through question, model and page: each glyph is where a reader expects it."""
    rows = [row for row in TABLE if row["direction"] and "|" not in row["text"]]
    assert len(rows) >= 60
    ask(wide, "\n\n".join(["بداية", *(row["text"] for row in rows)]), wait=False)
    expect(wide.locator("#chat .answer[data-state=complete]")).to_have_count(1, timeout=60_000)
    blocks = wide.locator("#chat .answer .prose > *")
    expect(blocks).to_have_count(len(rows) + 1)
    wrong = []
    for at, row in enumerate(rows, start=1):
        element, visual = AS_MARKDOWN.get(row["text"], (None, row["visual"]))
        if element:
            assert blocks.nth(at).locator(element).count() == 1, row["text"]
        drawn = seen(blocks.nth(at))
        if alike(drawn) != alike(expected(visual)):
            wrong.append((row["text"], drawn, expected(visual)))
    assert wrong == []


def test_lists_tables_and_code_in_mixed_text(wide):
    """Bullets and numbers stand where text begins, columns run from there; code keeps its order."""
    ask(wide, f"بداية\n\n{MIXED}")
    prose = wide.locator("#chat .answer .prose")
    box = prose.bounding_box()
    items = prose.locator("li")
    assert [items.nth(at).get_attribute("dir") for at in range(5)] == ["rtl", "rtl", "ltr", "rtl", "rtl"]
    assert [alike(seen(items.nth(at))) for at in range(5)] == [
        alike(text)
        for text in (
            "LLLيف6mmةدقع",
            "<3cmةريبكةلتك:RUL",
            "plainEnglish,4mm",
            "12.5x8mmسايقلا",
            "-450HUةفاثكلا",
        )
    ]
    for tag in ("ul", "ol"):
        styles = prose.locator(tag).evaluate("(one) => [one.dir, getComputedStyle(one).paddingRight]")
        assert styles[0] == "rtl"
        assert float(styles[1].removesuffix("px")) >= 20, tag
    cells = prose.locator("td")
    assert [seen(cells.nth(at)) for at in range(4)] == ["ةدقع", "<0.50", "L4–L5", "12.5mm"]
    places = [cells.nth(at).bounding_box()["x"] for at in range(2)]
    assert places[0] > places[1]
    table = prose.locator("table").bounding_box()
    assert table["x"] + table["width"] == pytest.approx(box["x"] + box["width"], abs=2)
    assert seen(prose.locator("code")) == "if(x<5)return-1;"
    assert alike(seen(prose.locator("p").last)) == alike(".دحلل5mmمثif(x<5)return-1;ةرفيشلا")


def test_order_holds_while_the_answer_arrives(wide):
    """At every piece of an answer numbers stand before their units and sentences run from the right."""
    wide.evaluate("""() => {
      window.wrong = [];
      window.looked = 0;
      const at = (node, text) => {
        const start = node.data.indexOf(text);
        if (start < 0) return null;
        const range = document.createRange();
        range.setStart(node, start);
        range.setEnd(node, start + text.length);
        return range.getBoundingClientRect().left;
      };
      new MutationObserver(() => {
        for (const block of document.querySelectorAll('#chat .answer[data-state=streaming] .prose p')) {
          if (!block.firstChild || !block.textContent.includes('القياس')) continue;
          const [number, unit, word] = ['12.5', 'mm', 'القياس'].map((text) => at(block.firstChild, text));
          window.looked += 1;
          if (block.dir !== 'rtl') window.wrong.push([block.dir, block.textContent]);
          if (number !== null && unit !== null && !(number < unit && unit < word)) {
            window.wrong.push([number, unit, word, block.textContent]);
          }
        }
      }).observe(document.querySelector('#chat .turns'), { childList: true, subtree: true });
    }""")
    ask(wide, "\n\n".join(["بداية"] + ["القياس 12.5 mm في RUL بعد 3 months من العلاج وقيمته أكبر"] * 12))
    assert wide.evaluate("window.wrong") == []
    assert wide.evaluate("window.looked") > 3


def test_what_is_copied_by_hand_is_in_logical_order(open_page, server):
    """Selecting and copying gives what was said: no marks, in the order of reading, also as markup."""
    page = open_page(locale="ar")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    ask(page, "القياس 12.5 mm في **الفص** الأيمن")
    prose = page.locator("#chat .answer .prose")
    expect(prose).to_contain_text("الأيمن")
    assert set(prose.inner_text()) & CONTROLS
    prose.evaluate("(node) => getSelection().selectAllChildren(node)")
    page.keyboard.press("ControlOrMeta+c")
    kinds = page.evaluate("""async () => {
      const [item] = await navigator.clipboard.read();
      const text = async (kind) => (await item.getType(kind)).text();
      return [await text('text/plain'), await text('text/html')];
    }""")
    assert kinds[0].endswith("القياس 12.5 mm في الفص الأيمن")
    assert "<strong>الفص</strong>" in kinds[1]
    assert not {character for kind in kinds for character in kind} & (CONTROLS | {"\u00a0"})


def test_a_number_and_its_unit_stay_on_one_line(open_page):
    """However narrow the page, no line ends with a number whose unit begins the next."""
    page = open_page(locale="ar", size=(390, 844))
    ask(page, " ".join(f"{'قياس' * (at % 3 + 1)} {at}.5 mm ثم" for at in range(1, 40)))
    for place in ("#chat .bubble", "#chat .answer .prose"):
        tops = page.locator(place).evaluate("""(root) => {
          const node = document.createTreeWalker(root, NodeFilter.SHOW_TEXT).nextNode();
          const top = (start, end) => {
            const range = document.createRange();
            range.setStart(node, start);
            range.setEnd(node, end);
            return range.getBoundingClientRect().top;
          };
          const found = [...node.data.matchAll(/(\\d+\\.5)\\s(mm)/g)];
          const end = (one) => one.index + one[0].length;
          return found.map((one) => [top(one.index, one.index + 2), top(end(one) - 2, end(one))]);
        }""")
        assert len(tops) == 39
        assert len({round(number) for number, _ in tops}) > 5
        assert [pair for pair in tops if abs(pair[0] - pair[1]) > 3] == []
