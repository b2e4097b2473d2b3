"""The config.json beside a file of weights, which says to which model the weights belong: ours, timm's, Hugging Face's.

    description.py     what such a file says, in the terms of this package; and which kind of file it is
    timm.py            read and write the file of timm
    hugging_face.py    read and write the files of Hugging Face's ViTForImageClassification
"""
