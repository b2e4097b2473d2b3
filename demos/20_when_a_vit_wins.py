"""When does a Vision Transformer beat a convolutional network? Ask five models the same questions, on endless images.

    python demos/20_when_a_vit_wins.py --tune     first: choose learning rates; writes when_a_vit_wins_tuning.csv
    python demos/20_when_a_vit_wins.py            then: the study; writes when_a_vit_wins.csv and its figure
    python demos/20_when_a_vit_wins.py --report   only print and draw what the table holds
    python demos/20_when_a_vit_wins.py --quick    a tiny study without conclusions; keeps only the figure

A *point* is one training: a task, a model, a number of different images, and a seed. Interrupt the study at any time:
the same command continues with the missing points. `--task`, `--seeds` and `--limit` choose which points are measured
now; `--jobs 2` measures two at the same time, each on its own core.

The images are generated (`minivit/data/shapes.py`), so their number can grow from a thousand to a million while the
rest stays equal. Each model has about 78,000 parameters and sees the same number of images in the same number of steps;
fewer images are repeated more often. Nothing is augmented or regularised except by weight decay. Each model's learning
rate is chosen for each task from the same grid, for few and for many images, on images that are in no other part. The
test images are used once, after the last step. For one seed, the smaller sets of images are parts of the larger ones.

The theory (`minivit/explain/symmetry.py`) makes predictions, which are written below. They were written before the
first of these trainings ran, also before the short ones that chose how hard the tasks are. The verdict is printed beside
each: *confirmed* or *refuted* if the sign of the difference is shown at 95% (Student's t over the seeds), else *open*.
"""

from dataclasses import dataclass

CNN, VIT, STEM, SWIN, MIXER, BAG = "CNN", "ViT", "ViT with stem", "Swin", "Mixer", "ViT without positions"
FEW, MANY = 2**12, 2**20                                              # numbers of images that the predictions name


@dataclass(frozen=True)
class Prediction:
    """What the theory says about a task, why, and how it is measured.

    measured: a formula over accuracies, in the form that `measure_prediction` reads.
    """

    claim: str
    because: str


PREDICTIONS = [
    Prediction("texture: with 4,096 images the CNN is ahead of the ViT",
               "a convolution is equivariant under shifts: it learns a direction of stripes once for all places"),
    Prediction("texture: the lead of the CNN over the ViT shrinks as the images grow from 1,024 to 1,048,576",
               "what the CNN knows before, the ViT can learn from many images"),
    Prediction("texture: the ViT is nowhere ahead of the CNN",
               "the bias of the CNN is right for this task, so it costs nothing with many images"),
    Prediction("texture: with 4,096 images a convolutional stem makes up more than half of what the ViT lacks",
               "its first layers are equivariant under shifts"),
    Prediction("count: with 4,096 images the CNN is ahead of the ViT",
               "a sum over places is what mean pooling computes from equivariant detectors"),
    Prediction("same-cells: with 1,048,576 images the ViT is ahead of the CNN",
               "the scores of attention are products of the contents of two tokens; a convolution has no such products"),
    Prediction("same-cells: the lead of the ViT over the CNN grows from 1,024 to 1,048,576 images",
               "with few images both learn them by heart"),
    Prediction("same-cells: with 1,048,576 images the ViT is ahead of the Mixer",
               "a Mixer mixes tokens by weights that do not depend on the image"),
    Prediction("same-different: with 1,048,576 images the lead of the ViT over the CNN is smaller than on same-cells",
               "a pattern that lies across patches is cut differently at each place, so equal patterns make unequal "
               "tokens"),
    Prediction("symmetry: with 1,048,576 images the ViT is ahead of the CNN",
               "the first block of a ViT compares places at any distance; the CNN does so only in its last layers"),
    Prediction("path: with 16,384 images the CNN is ahead of the ViT",
               "a line is followed from neighbour to neighbour, as convolutions work"),
    Prediction("position: with 4,096 images the ViT is ahead of the CNN",
               "the ViT adds a position to each token; the CNN knows places only from the zeros around the image"),
    Prediction("position: the lead of the ViT over the CNN shrinks from 1,024 to 1,048,576 images",
               "those zeros break the symmetry, so the CNN can learn where something is"),
    Prediction("position: a ViT without positions is below 15% right",
               "it sees a bag of patches, and each field is one patch"),
    Prediction("texture, patches permuted in training and test: the CNN, the stem and the Swin lose accuracy",
               "neighbours are no neighbours any more"),
    Prediction("texture, patches permuted in training and test: the ViT, the ViT without positions and the Mixer change "
               "by less than 2 points",
               "they treat every pair of patches alike before training"),
    Prediction("texture, trained with all stripes in the left half: in the right half the ViT loses more than the CNN",
               "the CNN is equivariant under shifts; the positions of the right half have learned nothing"),
]
