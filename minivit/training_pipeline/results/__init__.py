"""After a training: its result, curve and report; the trained model, loaded, evaluated and used to classify."""
