"""The exercises as the learner gets them: `minivit learn start NAME` copies one of these files."""
