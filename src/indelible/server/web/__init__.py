"""The page at `/`, for people: what happened, and how the readers of the log are doing.

Each module of this package has the routes of one screen: it reads, and renders a template.
"""

from .site import Site as Site
