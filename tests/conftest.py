"""How the tests are run: hypothesis draws the same examples for the same code, so that a commit that passed once passes again.

Other examples are looked for, anew every time, with `pytest --hypothesis-profile=search`; what they find becomes a case of its own.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("search", deadline=None)
settings.load_profile("repeatable")
