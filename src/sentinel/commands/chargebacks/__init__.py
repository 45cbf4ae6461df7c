"""`sentinel outcomes import`: a file of disputes becomes outcomes of the transactions that it is about."""
