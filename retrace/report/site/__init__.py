"""The reports, ablations and the comparison of all studies as one static site: `retrace site`."""
