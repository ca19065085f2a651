# Aliases of dev.py, for those who type make.

PYTHON = python3

.PHONY: demo test check matrix oldest

demo test check matrix oldest:
	@$(PYTHON) dev.py $@ $(ARGS)
