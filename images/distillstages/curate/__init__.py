"""The curate stage: questions → a teacher's answers, each checked → a data set of reasoning traces."""
