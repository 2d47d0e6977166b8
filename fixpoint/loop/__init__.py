"""How a run is carried out: retiring rows, recording iterates, advancing."""
