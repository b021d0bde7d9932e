"""The dialects of language models' APIs: one module for each, and `recognise`, which tells them apart."""
