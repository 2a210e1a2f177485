"""Go's words for what is wrong with JSON; ``m3_json`` of the golden recordings has them from etcd itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.net.server.json_complaint import json_complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "unexpected EOF"),
        ('{"a"', "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{a", "invalid character 'a' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1e+x", "invalid character 'x' in exponent of numeric literal"),
        ('"a\nb"', r"invalid character '\n' in string literal"),
        (r'"a\x"', "invalid character 'x' in string escape code"),
        (r'"\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
        ("'", r"invalid character '\'' looking for beginning of value"),
        ("é", "invalid character 'Ã' looking for beginning of value"),
    ],
)
def test_go_words_it_so(text: str, complaint: str) -> None:
    assert json_complaint(text) == complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "unexpected end of JSON input"),
        ("-", "invalid character ' ' in numeric literal"),
        ("tru", "invalid character ' ' in literal true (expecting 'e')"),
        ("1 x", "invalid character 'x' after top-level value"),
        (" 1 ", ""),
    ],
)
def test_a_text_that_holds_one_value_alone_is_read_to_its_end(text: str, complaint: str) -> None:
    assert json_complaint(text, alone=True) == complaint


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_nothing_is_wrong_with_json(value: object, indent: int | None, ascii_only: bool) -> None:
    assert json_complaint(json.dumps(value, indent=indent, ensure_ascii=ascii_only), alone=True) == ""


@given(st.text(alphabet='{}[]:,"\\0123456789.eE+-truefalsn u', max_size=12))
def test_it_complains_exactly_when_python_does(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        assert json_complaint(text, alone=True)
    else:
        assert json_complaint(text, alone=True) == ""


def test_deep_nesting_needs_no_deep_stack() -> None:
    assert json_complaint("[" * 100_000) == "unexpected EOF"
