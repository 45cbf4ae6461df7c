"""Wide fronts: any number of processes without state, which answer from the profiles that a keeper of state writes."""
