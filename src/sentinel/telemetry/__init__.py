"""What Sentinel tells about itself while it runs: counters, log lines, traces."""
