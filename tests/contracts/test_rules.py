"The table of rules names tests that are there, and tools/rules.py finds them."
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]/'tools'))
import rules  # noqa: E402


@pytest.mark.parametrize('rule', rules.read(), ids=lambda r: r['rule'][:40])
def test_every_pattern_names_a_test(rule):
    "Rejects a rule whose test was renamed or dropped."
    assert rule['how'] and rule['tests'] and int(rule['cases']) >= int(rule['functions']) > 0
    for pattern in rule['tests'].split(): assert rules.named(dict(tests=pattern), rules.functions()), pattern


def test_patterns_are_matched_whole():
    tests = ['test_a::test_one', 'test_a::test_one_more', 'test_b::test_one']
    assert rules.named(dict(tests='test_a::test_one'), tests) == tests[:1] and rules.named(dict(tests='test_a::*'), tests) == tests[:2]
    assert rules.named(dict(tests='test_c::*'), tests) == []
