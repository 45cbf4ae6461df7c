"""How likely is fraud: the model bundle, the scorer and the certificate of its export."""
