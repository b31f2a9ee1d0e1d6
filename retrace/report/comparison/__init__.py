"""Results side by side: of phases, studies, commits and experiments; and the tables generated into the documents."""
