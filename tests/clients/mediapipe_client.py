"""Runs MediaPipe's TextClassifier on texts; needs a Python with mediapipe.

python mediapipe_client.py MODEL.tflite TEXTS.json SCORES.json

TEXTS.json is a list of strings; SCORES.json becomes a list of {label: score}.
"""

import json
import sys
from pathlib import Path

from mediapipe.tasks.python import text

model, texts, scores = map(Path, sys.argv[1:])
with text.TextClassifier.create_from_model_path(str(model)) as classifier:
    outputs = [
        {c.category_name: c.score for c in classifier.classify(one).classifications[0].categories}
        for one in json.loads(texts.read_text())
    ]
scores.write_text(json.dumps(outputs))
