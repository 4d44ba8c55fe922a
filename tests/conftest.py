"""How the tests are run: hypothesis draws the same examples for the same code, so that a commit that passed once passes again.

New examples are looked for with `pytest --hypothesis-profile=search` (20,000 each, other ones every time); what they find becomes a case of its own.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("search", max_examples=20_000, deadline=None)
settings.load_profile("repeatable")
