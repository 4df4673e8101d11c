"""Kinds whose code does not exist yet, each an expected failure with its reason: none now.

`pending("why", r"pattern.*")` of `golden_kinds.compare` names one.
"""
