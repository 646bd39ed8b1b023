# Assignments: what students get, what instructors need, and marking; included by the Makefile at the root.
# CLASS is the folder of a class, COURSE_SEED what its hidden tests draw inputs from, ASSIGNMENT one of notebooks/course.

##@ Teaching

CLASS_FOLDER := $(if $(CLASS), --class "$(CLASS)")

course: TOUR := yes

.PHONY: course grade
course: $(FIRST_SUITE)  ## assignments for students, solutions and a guide for instructors (CLASS, COURSE_SEED)
	@$(compendium) course --profile $(PROFILE)$(CLASS_FOLDER)$(if $(COURSE_SEED), --seed $(COURSE_SEED))
grade: | intact-environment  ## mark what students handed in for ASSIGNMENT in CLASS
	@$(compendium) grade $(ASSIGNMENT)$(CLASS_FOLDER)
