"""`minivit study`: a grid of settings over several seeds, or an ablation study, from a small file.

    study_file    the file: what it may hold, and the trainings that it asks for
    run_study     train them, on threads, processes or other machines
    summary       the table and the picture of the results
    ablation      the same for variants of a base: paired differences with their 95% intervals
"""
