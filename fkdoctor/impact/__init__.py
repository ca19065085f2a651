"""What would this DELETE do? Answered before it happens, without executing it.

`firing` says which trigger acts when, `model` thinks through PostgreSQL's trigger queue over rows
given to it, `forecast` compares the orders in which it could happen. `closure` and `changing` find
the rows of a large DELETE set by set, in the database; `preview` puts the answer together, as
`effect` says it. `ask` takes any statement that was typed, `rehearsal` executes and undoes it.
"""
