"""The teaching stage: fine-tunes a pretrained BERT."""
