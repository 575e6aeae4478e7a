"""A user's torch model as it is: its weights, its gradient's check, its flow, its first NaN.

No file of this folder imports torch: whoever has a model has imported it.
"""
