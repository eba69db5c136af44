"""Networks on their way out: files that other runtimes run, what such files say of themselves, and running them.

Nothing here imports torch before it must: a file of ONNX or OpenVINO is run where torch is not installed.
"""
