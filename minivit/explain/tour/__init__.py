"""`minivit tour`: one page that follows one image through a trained model, forward and backward.

    recording    runs the image through the model and keeps the output and the gradient of every layer
    blocks       what the page shows of each block: norms, vectors, scores of every head
    tour         what the page shows of all other stages; start here
    numbers      many arrays as one text of a few bytes a number
    page         puts the numbers, `page.html`, `page.css` and the scripts together into one file

The page is plain HTML, CSS and JavaScript without a library. Its scripts run in this order: `numbers.js` reads what
`numbers.py` wrote, `drawing.js` draws maps, bars and curves, `attention.js` computes softmax and bias as the chapters
do, `stages.js` fills in the stages, and `main.js` reacts to the reader.
"""

from .page import write_tour
from .tour import check_can_tour, make_tour

__all__ = ["check_can_tour", "make_tour", "write_tour"]
