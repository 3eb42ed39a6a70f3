# Compiled as it is: functions only.
