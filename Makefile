# A short cut to lab.py, which also works where there is no make.
.PHONY: lab test run check
lab test run check:
	python3 lab.py $@
