"""Runs: `minivit.train`, the folder that it writes, and what is done with a trained model.

    train.py                  `minivit.train`: the path of a training, which joins the files below
    arguments_from_names.py   the arguments of `minivit.train` from names of data, model and weights
    run_settings.py           the complete settings of a run, new or resumed
    build_loop.py             trainer and loop from the settings
    folder.py                 the files of a run: how they are read and written
    config.py                 the content of config.json
    checkpoints.py            save and restore the state of a training; SIGINT and SIGTERM
    run_data.py               whether data fit a model, and are still those of a run
    leakage.py                whether a run was trained on test images
    progress.py               the progress bar
    tensorboard_log.py        the log of a run for TensorBoard
    same_everywhere.py        whether the ranks of a training have the same code, data, settings and folder
    shared_data.py            one copy of the images for all ranks of a machine
    studies/                  `minivit study`: a grid of settings over several seeds
    defaults/                 presets of the data sets, default model, default folder
    pretrained/               pretrained weights: fine-tuning, linear probe, teacher
    results/                  result, curve and report; load, evaluate and use the trained model

Read `train.py` first.
"""
