"""Recording: what passed becomes records, the records go to the spool before the bytes go on."""
