"""Attribution: whether a picture was made by a model, and how surely that is told."""
