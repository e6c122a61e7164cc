"""Who may do what: principals, their rights, and tokens. Servers and the command line share it."""

from .rights import Grant, Principal, Verb
from .tokens import NewToken, TokenInfo

__all__ = ["Grant", "NewToken", "Principal", "TokenInfo", "Verb"]
