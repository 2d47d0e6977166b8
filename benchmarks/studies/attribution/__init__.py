"""Attribution: whether a picture was made by a model, and with which certainty."""
