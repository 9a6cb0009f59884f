"`python -m ddpm_lesson`: the commands."
from ddpm_lesson.cli import main

if __name__ == '__main__': main()
