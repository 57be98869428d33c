"""kdedge: a BERT text classifier, distilled, exported, proven and measured.

The public names are in `__init__.pyi`. They are imported when they are first used, so that
`import kdedge` loads no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
