"""kdedge distils BERT text models into small students, exports and measures them.

The public names are in `__init__.pyi`. They are imported on first use, so that `import kdedge`
loads no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
