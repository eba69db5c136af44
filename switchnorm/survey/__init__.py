"""Looking at data before it is trained on: each file once, or in a moment some of them.

What is seen of one sample is the dataset's affair (`Dataset.surveyed`, `switchnorm.data.files.surveyed`), how it is
drawn the task's (`TaskSpec.drawing`). From the top down:

    page.py, words.py    what was found, as a page and on the terminal; tables.py: the tables of both
    whole.py, quick.py   all of a dataset, for `switchnorm check`; a few samples of it, before a training
    findings.py          what is wrong or unusual, a sentence each
    duplicates.py        samples that are there twice
    batches.py           looking at datasets that have nothing but batches
    readers.py           looking at many samples on all cores
    summary.py           what many samples come to
"""
