"""`omni-ray report`: one self-contained HTML page about an output.

`survey` reads what is committed, as a stream; `samples` picks what to look at and to listen to; `drawing` turns counts
into bars; `page` puts all of it into the template beside it. Nothing in the page depends on the time or on the machine,
so the same output gives the same bytes; and it holds no script and loads nothing, so what a caption says cannot run.
"""
