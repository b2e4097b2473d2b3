"""The course: exercises that grade themselves, from a linear map to a whole Vision Transformer.

    minivit learn                      lists the exercises
    minivit learn start linear         writes linear.py
    minivit learn check linear.py      says what is wrong
    minivit learn hint linear          shows one hint more
    minivit learn train *.py           trains the digits with the learner's own functions

`exercises/` has the files that the learner gets, and `references.py` the right answers. `marking/` says how each
exercise is checked. Read in this order: `exercise` and `submission` (an exercise, and a learner's file), `examination`
(what is checked), `diagnosis` (how a mistake is named), `process` (the learner's file runs in a process of its own),
`training`, `progress`, `lessons` (what the command line prints), `notebooks`.
"""
