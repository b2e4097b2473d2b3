"""A model as an ONNX file, the format that many programs run: onnxruntime, browsers, phones.

An ONNX model is a graph. Its *nodes* apply standard operators, such as MatMul and Softmax, to named arrays; its
*initializers* are constant arrays, here the weights. The operator set (*opset*) says which operators there are.

    graph.py        a graph under construction
    layers.py       the nodes of each layer
    models.py       the nodes of each model
    attention.py    where the model looks, as a second output
    file.py         the whole file, with metadata
    compare.py      the logits of the file in onnxruntime, against ours
"""
