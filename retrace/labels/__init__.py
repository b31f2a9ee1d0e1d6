"""Labels that probably need a look, ranked by how much a model that did not see them disagrees."""
