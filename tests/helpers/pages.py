"""Read a page, for all tests of pages."""

ANGRY = "<b>A & 'B'</b></script>"  # the name of a data, as nobody should name one
