"""What the tests of the page share."""

ANGRY = "<b>A & 'B'</b></script>"  # the name of a data, as nobody should name one
