#!/bin/sh
# Before the first start: a champion where there is none, and the key that Prometheus reads the metrics with.
set -eu
chmod 700 "$SENTINEL_HOME/access"
aliases=$(sentinel models aliases --json)
if echo "$aliases" | python -c 'import json, sys; sys.exit("champion" in json.load(sys.stdin)["aliases"])'; then
  sentinel simulate --out /tmp/payments.parquet --transactions "$STACK_TRANSACTIONS"
  sentinel train --data /tmp/payments.parquet --quick ${MLFLOW_TRACKING_URI:+--mlflow}
fi
key=/keys/prometheus.key
if [ ! -s "$key" ]; then
  sentinel keys revoke prometheus 2>/dev/null || true  # one that was made, and whose file was never written
  sentinel keys create prometheus --scopes read --expires never --json |
    python -c 'import json, sys; print(json.load(sys.stdin)["key"])' > "$key.begun"
  mv "$key.begun" "$key"
fi
