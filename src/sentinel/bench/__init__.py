"""`sentinel bench`: the load generator and the loads of the serving benchmark."""
