"""`sentinel retrain`: from matured labels to a challenger in the shadow, one recorded step after the other."""
