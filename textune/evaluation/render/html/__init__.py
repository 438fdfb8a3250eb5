"""Reports and the story of their run in; one page out that needs no other file, plots first."""
