"""The compression stage: fine-tunes students while making them smaller."""
