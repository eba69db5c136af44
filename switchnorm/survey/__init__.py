"""Looking at data before it is trained on: each file once, or in a moment some of them.

What is seen of one sample is the dataset's affair (`Dataset.surveyed`, `switchnorm.data.files.surveyed`), how a sample is
drawn the task's (`TaskSpec.drawing`). From the top down:

    whole.py, quick.py   all of a dataset, for `switchnorm check`; a few samples of it, before a training
    page.py, words.py    what whole.py found, as a page and on the terminal
    findings.py          what is wrong or unusual, a sentence each
    summary.py           what many samples come to; duplicates.py: those that are there twice; batches.py: of datasets that
                         have nothing but batches
    readers.py           looking at many samples on all cores
"""
