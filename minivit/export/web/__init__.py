"""A static page that runs a model in the browser: draw or drop an image, and see the classes and the attention.

    folder.py     writes the folder: page, model, and the files of onnxruntime-web
    drawing.py    how a drawing becomes an image like those that the model was trained on
    runtime.py    the files of onnxruntime-web, from a folder or downloaded
    page.html, page.css, main.js (what happens), images.js (from a file or from strokes to pixels)
"""
